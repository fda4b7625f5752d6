"""What a genuine OpenWhisk needs to run the action server: images, a runtimes manifest, a zip for Python kinds."""
