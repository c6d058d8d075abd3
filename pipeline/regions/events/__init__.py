"""Events: what happened once at one place, its id that stays, how sure it is, and what each pass changed about it."""
