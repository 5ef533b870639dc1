;; Mutual recursion through a table.
;; expect: stack-overflow
;; fuel: 1000000000
(module (memory (export "memory") 1) (table funcref (elem $a $b))
  (func $a (call_indirect (i32.const 1)) (i32.store (i32.const 0) (i32.const 1)))
  (func $b (call_indirect (i32.const 0)) (i32.store (i32.const 4) (i32.const 1)))
  (func (export "_start") (call $a)))
