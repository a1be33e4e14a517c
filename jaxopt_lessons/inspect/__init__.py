"""Looking into optimizers before they run: what one does to which parameter, and its schedules drawn."""
