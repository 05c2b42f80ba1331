"""The kernel that every Huracan service stands on."""
