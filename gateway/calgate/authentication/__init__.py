"""Who are you?"""
