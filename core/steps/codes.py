"""Numbers of a row: what to do, and where target and operands lie; see `core.steps.machine`."""

WIDTH = 26
TARGET, FIRST, SECOND, THIRD = 6, 11, 16, 21
"""Where offset and strides of target and operands begin in a row."""

UP, DOWN, COPY, PRODUCT, LESS, SUM, LARGEST, NORM, CHOOSE, GATHER, DOT, LESS_DOT = range(12)
"""Between memories, copies, a + b c, a - b c, reductions, layer norm, a where c else b, rows of a table, and
sums of products a b (added to c, or taken from it)."""
GIVE, TAKE, FROM = range(12, 15)
"""a + b c, a - b c, b c - a, element by element."""
ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, EQUAL, LESS_THAN, REMAINDER = range(20, 29)
"""Of two operands, element by element."""
(
    SIGMOID, TANH, EXP, LOG, SQRT, RSQRT, NEGATE, ABS, RELU, SOFTPLUS, LOG_SIGMOID, SILU, GELU, ELU,
    SQUARE, RECIPROCAL, COS, SIN, EXPM1, NOT, LOG1P, TRUNCATE,
) = range(40, 62)  # fmt: skip
"""Of one operand, written over the target after a copy."""
