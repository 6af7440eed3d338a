"""What is inside a `.tflite` file, and what could be saved."""
