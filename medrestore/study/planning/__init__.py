"""From the user's plan to what each reader reads, and when."""
