package schema

// RowsForTest is the table of kinds, for tests that import what imports schema.
func RowsForTest() Rows[Row] { return rows }
