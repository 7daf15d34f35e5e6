"""Is there a CAL for you?"""
