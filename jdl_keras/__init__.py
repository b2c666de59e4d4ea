"""Joint deep learning of the myocardium and its scar from LGE cardiac MR."""
