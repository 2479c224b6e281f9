"""The callbacks that ship, except those that know of ratings."""
