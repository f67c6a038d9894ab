"""Many small networks trained as one program."""
