"""What more than one detector needs: occupancy, trend, comparison, outliers."""
