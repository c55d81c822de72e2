"""Operations are placed on chips: what is fused, what fits, how it is cut."""
