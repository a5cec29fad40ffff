"""What every network needs around itself: device, orientation, intensities, running, cleaning up."""
