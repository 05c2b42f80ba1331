"""The sentiment expert: the mood of headlines about an underlying."""
