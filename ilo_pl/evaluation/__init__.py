"""How good results are: scores, tables, pictures. Reads run folders, never the engine."""
