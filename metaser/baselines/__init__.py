"""What the meta-learners are compared with."""
