"""Tables and figures that say whether image and diagnosis held."""
