"""The bins half: changes of ``artifacts`` become new versions of bins."""
