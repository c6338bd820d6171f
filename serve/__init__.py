"""What was trained, behind HTTP. Inside this package Ray Serve is `from ray import serve`, never `import serve`."""
