"""Charts of classes of users, each with a colour and a mark of its own."""
