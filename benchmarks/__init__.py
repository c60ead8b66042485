"""Side by side with peers, and with what can go wrong."""
