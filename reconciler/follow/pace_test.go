package follow

import "testing"

func TestBackoff(t *testing.T) {
	for attempt := 1; attempt < 100; attempt++ {
		whole := lastRetry
		if attempt < 10 {
			whole = min(lastRetry, firstRetry<<(attempt-1))
		}
		got := backoff("shop", attempt)
		if got < whole*3/4 || got > whole*5/4 {
			t.Errorf("attempt %d waits %s, want %s and a quarter", attempt, got, whole)
		}
		if got != backoff("shop", attempt) {
			t.Errorf("attempt %d waits differently the second time", attempt)
		}
	}
	if backoff("shop", 20) == backoff("web", 20) {
		t.Error("two sources come back at once")
	}
}
