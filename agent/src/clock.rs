//! The real clocks; everything else gets them handed in.
