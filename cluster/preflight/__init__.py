"""Are the nodes of an allocation fit for work? Found out in less than a minute."""
