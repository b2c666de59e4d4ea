"""What was drawn on a stack, from the files of reading tools."""
