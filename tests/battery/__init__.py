"""Every model times every verb: the right answer, or one refusal that says what is lacking."""
