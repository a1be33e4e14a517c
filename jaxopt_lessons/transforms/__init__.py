"""Parts that are not an algorithm by themselves: scaling, clipping, momentum, averages, weight decay."""
