"""What the module's widget does, stage by stage. Slicer's main thread only; all heavy work is the worker's."""
