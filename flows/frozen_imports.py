"""Imported last by the process that workers are forked from: the garbage collector passes over all that was imported.

Modules leave half a million objects, none of them garbage. Each worker looked through them whenever it let a model go,
for half a second, and by writing to them took pages of its own in place of those that it shares with the others.
"""

import gc

gc.freeze()
gc.enable()
