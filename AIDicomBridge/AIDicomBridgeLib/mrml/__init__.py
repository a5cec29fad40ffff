"""Volumes and labels as Slicer nodes and back, and pictures of them; the only room that imports slicer and vtk."""
