"""From a handout to a proven bundle, and from a bundle to one answer."""
