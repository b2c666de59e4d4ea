"""How fast this machine trains, predicts and serves, and how fast it could."""
