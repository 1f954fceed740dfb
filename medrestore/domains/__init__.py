"""One folder for each kind of image; none knows another, and no room below knows any of them."""
