"""What the receiver does when more frames come than are analysed: degrade, shed, hold back; in this order, by rule."""
