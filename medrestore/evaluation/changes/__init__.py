"""What each restoration changes: tables of what was lost, repaired and moved, pictures, and a page of it."""
