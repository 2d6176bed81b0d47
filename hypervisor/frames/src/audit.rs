//! Recounting: what every frame's counts must be, worked out from the tables themselves (F4).
