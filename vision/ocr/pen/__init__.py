"""Writing with a pen that is followed: strokes to text, as they come, and letters from an IMU in the pen."""
