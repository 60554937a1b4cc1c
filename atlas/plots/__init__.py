"""Pictures of what an atlas holds; matplotlib is loaded where one is drawn."""
