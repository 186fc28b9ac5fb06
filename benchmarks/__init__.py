"""Speed, measured in one run and as ratios against the peer in the same run. ``make bench`` runs all."""
