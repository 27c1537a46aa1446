"""Every signal of the project, declared once, and the ways out of the process."""
