"""The persister: keeps decisions and all they rest on."""
