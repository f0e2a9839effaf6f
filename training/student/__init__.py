"""The 3D network and how it is trained."""
