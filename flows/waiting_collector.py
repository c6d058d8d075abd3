"""Imported first by the process that workers are forked from: the garbage collector waits until all is imported."""

import gc

gc.disable()
