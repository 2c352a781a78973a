"""Motifs of transcription factors: their files, and which of them a seqlet is most like."""
