"""What must hold, seeds that look for a breach, safeguards to switch off."""
