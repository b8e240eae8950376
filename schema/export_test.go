package schema

// NotInGitForTest is the reason of the cells of kinds that may not stand in Git.
const NotInGitForTest = notInGit

// RowsForTest is the table of kinds, for tests that import what imports schema.
func RowsForTest() Rows[Row] { return rows }
