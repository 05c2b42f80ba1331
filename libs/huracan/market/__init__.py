"""Instruments, order books, bars."""
