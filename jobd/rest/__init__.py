"""Jobs as clients of PaddleCloud know them: what they post becomes a spec, and what they are told is made of jobs."""
