"""What `compat.py` has each environment do; every file here is a script of its own."""
