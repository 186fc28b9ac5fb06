"""Numbering of virtual-site types, shared by chemistry and energies."""

SITE_TYPES = ("BondCharge", "MonovalentLonePair", "DivalentLonePair", "TrivalentLonePair")
"""The four types of the SMIRNOFF specification; a site's type is its position here."""

WEIGHTED_SITE_TYPES = ("TwoParticleAverage", "ThreeParticleAverage", "OutOfPlane")
"""Types of OpenMM that are weighted sums of their atoms; they are numbered on from :data:`SITE_TYPES`."""

NO_ATOM = -1
"""Fills the orientation atoms of sites that have fewer than four."""
