"""Functional forms of your own: what a section needs so that systems can evaluate and differentiate it.

A form is a section name, the attributes of a term, and a function that gives energies. Its parameters are read from
the section's ``ParameterHandler``, assigned by SMIRKS with SMIRNOFF's rule that the last match wins, and written back
like those of any other section. Nothing else has to be done.
"""

from openff_diffsystem.forms.form import Form, PairEnergy, PairForm, Settings, ValenceEnergy, ValenceForm
from openff_diffsystem.forms.registry import register_form

__all__ = ["Form", "PairEnergy", "PairForm", "Settings", "ValenceEnergy", "ValenceForm", "register_form"]
