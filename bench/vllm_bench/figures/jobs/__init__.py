"""Jobs: sessions from their first send to their last token."""
